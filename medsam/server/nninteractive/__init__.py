"""nnInteractive's protocol (client 2.6), so that its viewers work with this server: 3D Slicer, napari, MITK.

    packed      arrays as they travel
    leases      who has one of the places, for how long, and whose image is in memory
    drawing     what was drawn in an array, as boxes, strokes and loops of a slice
    outlining   one object in one image, asked for along each axis that something was drawn across
    answering   an object's interactions one after the other, each answered in time
    routes      the calls

Each client has a lease, and of it one image, one object, and the mask as the client last had it. Calls of a lease are
taken one at a time (`Lease.lock`), but for signs of life; an object is touched on the worker's thread alone. Nothing
is stored, and what a client sends is no case.

What is drawn on a plane is asked on that plane, and what comes of it is followed through the volume. That may take
longer than a client waits: it is then answered with what was found so far, and the next call brings the rest.

The array's last axis is taken for columns that run left, the one before for rows that run back, the first for slices
that run up, as `Volume.from_array` does: clients send no direction, and most send (k, j, i) of what they show.
"""
