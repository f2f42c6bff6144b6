"""A Ray cluster of two nodes, on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from plugin_host.stems.ray_crew import check_installed


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """Its address; a node has one core, and what the environment holds at the start."""
    check_installed()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes(60)
        yield cluster.address
    finally:
        cluster.shutdown()
