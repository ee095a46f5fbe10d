"""The fault matrix: faults as data, one runner that provokes them on lab hosts, and the table that it writes."""
