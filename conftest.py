"""What pytest takes only from the top: hosts that tests of several folders share."""

pytest_plugins = ["tests.hosts.fixtures"]
