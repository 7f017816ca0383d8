"""MONAI Label's protocol: 3D Slicer, OHIF and MITK talk to this server as to one of MONAI Label, unchanged.

Served at the root, where these clients look for it, and only where a server is told to (`settings.MonaiLabel`).

    rules       what requests have to look like, and what the protocol forces open
    models      what is offered: `GET /info/`
    asked       what an inference asks for, in prompts of ours
    images      which scan `image=` or `session_id=` means, as the client holds it
    sent        sessions: images that a client sent, until they expire
    infer       `POST /infer/{model}`, and `answers`: what comes back
    datastore   cases as a data store, and `labels`: what readers submitted
    routes      everything else: sessions, log in, next sample, training (there is none)
    ohif        a built OHIF as pages, and `proxy`: its PACS, through this server

Masks are those of `medsam segment` for the same image and prompts, to the voxel: an inference keeps nothing, so all
clicks come with each. What is embedded once is not embedded again.
"""
