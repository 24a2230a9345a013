import pytest
from generated_data import write_data

from lop.experiment import make_stream


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_data(folder)


@pytest.fixture
def make(folder):
    from small_streams import OWN_DATA, SMALL  # not above: it counts what plugins add, which are loaded after this file

    def make(name, seed=0, **options):
        return make_stream(name, {**OWN_DATA[name], **SMALL[name], **options}, seed, str(folder), "cpu")

    return make
