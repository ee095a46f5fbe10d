"""Real Linux hosts for tests: Debian trees booted by systemd-nspawn, each with its own network namespace."""
