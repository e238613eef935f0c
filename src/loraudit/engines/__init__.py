"""Where units of work are carried out: processes of this machine, or a Ray cluster. One seam: `map(work, units)`.

`work` is a picklable callable. An engine gives each worker its copy once, before the first unit, so what it loads on
first use (weights, a tokenizer) stays with the worker: keep such state in attributes that `__getstate__` leaves out.
A unit may be carried out more than once (its worker may die after finishing it), so `work` writes whole files or
none and finds what is there already. Outcomes come in the order of the units, whatever the order of finishing.
Long work asks `stop_of_worker()` between its batches, so that a stop reaches it wherever it runs.
"""

from loraudit.engines.engine import Engine, open_engine
from loraudit.engines.shards import positions_of_shard
from loraudit.engines.stopping import stop_of_worker

__all__ = ["Engine", "open_engine", "positions_of_shard", "stop_of_worker"]
