export const shell = {
  "shell.title": "medsam",
  "shell.research": "Research use, not a medical device",
} as const;
