"""A small Wayland server that its clients cannot kill.

It shows what clients draw into memory of theirs (wl_shm) side by side, and writes the
frames as PNG files::

    python -m examples.compositor --socket wayland-9 --png /tmp/frames --frames 100
    WAYLAND_DISPLAY=wayland-9 weston-simple-shm

Each module has one object of the protocol, or one concern:

    wire         messages as bytes
    resource     what all objects of the protocol have in common
    descriptors  receives and closes them, and connections
    client       a connection: its socket, its objects, and how it ends
    display      wl_display, wl_registry, wl_callback
    shm          wl_shm, wl_shm_pool, wl_buffer: the memory of strangers
    surface      wl_compositor, wl_surface, wl_region
    subsurface   wl_subcompositor, wl_subsurface
    shell        xdg_wm_base, xdg_surface, xdg_toplevel, xdg_positioner, xdg_popup
    seat, output, data_device    enough of them for toolkits to start
    screen       draws a frame
    png          writes it
    log          says what went wrong
    server       the event loop
"""
