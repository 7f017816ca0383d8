export const shell = {
  "shell.title": "medsam",
  "shell.research": "연구용이며 의료기기가 아닙니다",
} as const;
