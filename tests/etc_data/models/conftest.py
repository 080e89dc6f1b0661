"""What the tests of all networks share: one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine, threads that wait for one another cost more than they bring."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)
