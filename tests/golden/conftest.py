"""The scripts that wrote the stored values need the peers; tests do not."""

collect_ignore_glob = ["*_peers.py", "*_peers_*.py"]
