"""The data engine in the server: readers take tasks of a project, draw them in ordinary sessions, and hand them in.

The project's tables lie in the store of the server, so what a task has become and what was drawn for it are in one
place, and both outlive the server. A task's session is a reading as any other (`medsam.server.readings`): it begins
with the structures as its objects, from what is proposed or stands, and what it holds when it is handed in becomes
masks of the project, with where each comes from. Nothing here keeps anything in memory that the store does not have.
"""
