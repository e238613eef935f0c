"""Altered copies of the records, and what models say of them: the slow attacks of an audit."""
