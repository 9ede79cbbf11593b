"""Every way this house says no. An error is a small page: a permanent code, one sentence with the
values, what is still billed, one line to paste, and an exit status that scripts can rely on.

Only cli/ prints these; everybody else raises them.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    BUG = 1
    USAGE = 2
    KEYS = 3
    NO_OFFER = 4
    PROVIDER = 5
    UNREACHABLE = 6
    TRAINER = 7
    LIMIT = 8
    MAYBE_BILLING = 9
    VIEW_LEFT = 130


class LauncherError(Exception):
    """What went wrong, in words for the person who has to act."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        exit: Exit,
        hint: str | None = None,
        details: tuple[str, ...] = (),
        billed: str = "nothing",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit = exit
        self.hint = hint  # a line to paste, without the program's name: "plan vaep --gpu any-24gb"
        self.details = details  # further sentences: all faults of a file, the vendor's reason
        self.billed = billed


def usage(
    code: str, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()
) -> LauncherError:
    """The commonest kind: something the user wrote cannot be meant."""
    return LauncherError(code, message, exit=Exit.USAGE, hint=hint, details=details)


class ProviderError(Exception):
    """The closed set of what a provider's adapter may raise. `surely_no_effect`: nothing was made or ended,
    so it may be asked again without looking first."""

    exit = Exit.PROVIDER

    def __init__(self, reason: str, *, surely_no_effect: bool = False, everywhere: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.surely_no_effect = surely_no_effect
        self.everywhere = everywhere  # every other offer of this target would be refused alike


class AuthRefused(ProviderError):
    """`fix`: the line that mends it. `missing`: there is no key at all, and nobody was asked."""

    exit = Exit.KEYS

    def __init__(self, reason: str, fix: str | None = None, *, missing: bool = False) -> None:
        super().__init__(reason, surely_no_effect=True, everywhere=True)
        self.fix = fix
        self.missing = missing


class NoCapacity(ProviderError):
    """The provider has none of it now: the next offer may do. `hint`: the flags with which it has some."""

    exit = Exit.NO_OFFER

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason, surely_no_effect=True)
        self.hint = hint


class QuotaReached(ProviderError):
    """The account may not have so much. `everywhere`: it may have nothing at all now."""

    exit = Exit.NO_OFFER

    def __init__(self, reason: str, *, everywhere: bool = False) -> None:
        super().__init__(reason, surely_no_effect=True, everywhere=everywhere)


class BadOrder(ProviderError):
    """The provider says that this order can never work."""

    def __init__(self, reason: str, *, everywhere: bool = False) -> None:
        super().__init__(reason, surely_no_effect=True, everywhere=everywhere)


class TooFast(ProviderError):
    def __init__(self, reason: str, wait_s: float = 1.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Unreachable(ProviderError):
    """No answer, or none to be trusted: the effect may have happened."""

    exit = Exit.UNREACHABLE


class KeyChanged(Unreachable):
    """Whoever answers there is not who we know. Only a person can mend it."""


class Busy(ProviderError):
    """Another resource must go first."""


class Gone(ProviderError):
    """The provider knows nothing of this id (now): not yet proof."""


class VendorBug(ProviderError):
    """An answer outside the provider's own contract."""


class HostError(Exception):
    """What a host may raise."""


class HostUnreachable(HostError):
    """The way to the host is cut; nothing is known of the host itself."""


class PlaceGone(HostUnreachable):
    """The host is gone, and what it held with it: nobody will answer there again."""


class NoFile(HostError):
    """The file is not there (yet)."""


class HostDiskFull(HostError):
    pass


class Corrupt(HostError):
    """What arrived is not what was announced."""


class Stopped(Exception):
    """Raised out of tick() when a request, a signal or a deadline ends what is being done."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
