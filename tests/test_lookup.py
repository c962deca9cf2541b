import socket

import pytest
from aiohttp.resolver import ThreadedResolver

from notifier.lookup import Lookup, stuck_for


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
@pytest.mark.parametrize("family", [socket.AF_UNSPEC, socket.AF_INET])
async def test_a_name_is_resolved_as_aiohttp_itself_would(host: str, family: socket.AddressFamily) -> None:
    async def answer(resolver: Lookup | ThreadedResolver) -> object:
        try:
            return await resolver.resolve(host, 80, family)
        except OSError as error:
            return error.errno

    assert await answer(Lookup()) == await answer(ThreadedResolver())


async def test_a_name_that_does_not_exist_is_an_error_of_the_system_and_is_over() -> None:
    with pytest.raises(socket.gaierror):
        await Lookup().resolve("nowhere.invalid", 80)
    assert stuck_for("nowhere.invalid") == 0


async def test_a_name_that_cannot_be_asked_for_is_over_as_well() -> None:
    for _ in range(2):
        with pytest.raises(UnicodeError):
            await Lookup().resolve("x" * 64 + ".example", 80)
    assert stuck_for("x" * 64 + ".example") == 0
