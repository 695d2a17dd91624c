"""Peers that want to kill, stall or fool whoever maps what they send; and honest ones.

    client    a connection to a Wayland server, and a window
    files     descriptors that nobody should be handed
    attacks   what hostile clients do to examples/compositor
    honest    a client whose pictures show whether they are right
    soak      many of both against one server, and what became of it

``python -m examples.hostile SOCKET`` runs each attack once against a server.
"""
