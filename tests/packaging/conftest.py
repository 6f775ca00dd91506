"""Built once for all tests, by whichever process comes first."""

import pytest

from tests.packaging.environments import Built, build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Built:
    base = tmp_path_factory.getbasetemp()
    return build((base if worker_id == "master" else base.parent) / "distributions")
