"""What holds for all tests."""

from hypothesis import settings

# A machine that others use may stand still in the middle of an example: a property has no deadline,
# and a test that hangs has pytest's.
settings.register_profile("klamm", parent=settings(), deadline=None)
settings.load_profile("klamm")
