"""Progress displays on a terminal, drawn with rich; ``displays`` imports them where one shows."""
