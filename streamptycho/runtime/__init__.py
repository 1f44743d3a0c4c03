"""How messages travel and how services live: ports, sockets, the service loop, the supervisor."""
