"""Who may read the state."""

import stat

from mirror.state.store import open_store


async def test_a_new_state_is_its_owners_alone(tmp_path):
    """A new state.db can be read by its owner only; one that is there keeps its mode."""
    path = tmp_path / "state.db"
    async with open_store(path):
        assert {stat.S_IMODE(found.stat().st_mode) for found in tmp_path.iterdir()} == {0o600}
    path.chmod(0o640)
    async with open_store(path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
