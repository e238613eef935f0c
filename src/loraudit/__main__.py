"""`python -m loraudit`."""

from loraudit.cli import main

if __name__ == "__main__":
    main()
