"""Numbers and names as people read them."""

from __future__ import annotations

from loraudit.types import Finding


def percent(value: float) -> str:
    """A rate in percent, with as many decimals as small rates need.

    >>> percent(0.25), percent(0.0123), percent(0.0004)
    ('25.0 %', '1.23 %', '0.04 %')
    """
    return f"{100 * value:.1f} %" if value >= 0.1 else f"{100 * value:.2f} %"


def percent_interval(finding: Finding) -> str:
    """Ends of an interval in percent, as "[20.1, 24.0] %"."""
    if finding.lower is None or finding.upper is None:
        return "no interval"
    digits = 1 if max(abs(finding.lower), abs(finding.upper)) >= 0.1 else 2
    return f"[{100 * finding.lower:.{digits}f}, {100 * finding.upper:.{digits}f}] %"


def plain(value: float) -> str:
    """A number with four significant digits and no trailing zeros.

    >>> plain(0.05), plain(2.0), plain(1 / 3)
    ('0.05', '2', '0.3333')
    """
    return f"{value:.4g}"


def ends(finding: Finding, digits: int = 3) -> str:
    """The interval as "[0.905, 0.921]"; empty where there is none."""
    if finding.lower is None or finding.upper is None:
        return ""
    return f"[{finding.lower:.{digits}f}, {finding.upper:.{digits}f}]"


def rate_words(finding: Finding) -> str:
    """A rate with its interval in a sentence, as "41.2 % [38.0, 44.5] %"."""
    return "an unknown share" if finding.value is None else f"{percent(finding.value)} {percent_interval(finding)}"


def point_words(finding: Finding) -> str:
    """A difference of rates in percentage points with its interval, as "3.10 [1.20, 5.00] points"."""
    if finding.value is None:
        return "an unknown number of points"
    found = [end for end in (finding.value, finding.lower, finding.upper) if end is not None]
    digits = 1 if max(map(abs, found)) >= 0.1 else 2
    value, *interval = (f"{100 * end:.{digits}f}" for end in found)
    return f"{value} [{', '.join(interval)}] points" if len(interval) == 2 else f"{value} points"
