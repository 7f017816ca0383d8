export const api = {
  "api.lost": "The server does not answer. What is drawn is safe there; this page goes on as soon as it is back.",
  "api.busy": "The server cannot do this now. Wait a little and try again. {detail}",
  "api.tooOften": "Too much at once. Try again in {seconds} s.",
  "api.loggedOut": "You are logged out. Log in again; what is drawn is there.",
  "api.wrongPassword": "The name or the password is wrong. Try again.",
  "api.locked": "Locked after a while without use. Give your password.",
  "api.objectLocked": "This structure is locked: unlock it in the list of structures first. {detail}",
  "api.notAllowed": "You may look at this, but not change it.",
  "api.named":
    "This kind of file names the patient, which is not for your role. Take NIfTI or NRRD, or send it to the PACS.",
  "api.notFound": "This is not there, or not yours to see. Go back to the list of scans.",
  "api.conflict": "This cannot be done as things stand. {detail}",
  "api.movedOn": "Somebody changed this meanwhile, perhaps you in another tab. It is up to date now: try again.",
  "api.tooLarge": "Too large for this server. Upload fewer or smaller files. {detail}",
  "api.diskFull": "The server's disk is full: nothing was kept. Ask who runs it to make room.",
  "api.defect": "Something went wrong in the server. Try again; if it stays so, tell who runs it: {detail}",
  "api.refused": "{detail}",
  "api.unexpected": "Something went wrong. Reload the page; what is drawn is safe on the server.",
  "api.unrefined": "The first answer stays as it is: a finer one could not be made. Draw once more where it is wrong.",
  "api.uploadBroke":
    "The upload broke off. The server may not take so much at once: upload fewer or smaller files, or try again.",
} as const;
