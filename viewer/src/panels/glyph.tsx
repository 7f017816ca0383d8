// Small line drawings that the shell's do not have. They say nothing by themselves: each button has a label.

const PATHS = {
  eye: "M2.8 12S6 5.8 12 5.8 21.2 12 21.2 12 18 18.2 12 18.2 2.8 12 2.8 12z M12 9.300a2.7 2.7 0 1 0 0 5.4 2.7 2.7 0 0 0 0-5.400z",
  hidden: "M2.8 12S6 5.8 12 5.8 21.2 12 21.2 12 18 18.2 12 18.2 2.8 12 2.8 12z M4.5 20L19.5 4",
  locked: "M5.5 10.500h13v9.500h-13z M8.5 10.500V8a3.5 3.5 0 0 1 7 0v2.5 M12 14v2.5",
  open: "M5.5 10.500h13v9.500h-13z M8.5 10.500V7a3.5 3.5 0 0 1 6.7-1.4",
  edit: "M5 19l1-4.500L16 4.500l3.5 3.5-10 10z M13.5 7l3.5 3.5",
  trash: "M5 7h14 M10 7V4.500h4V7 M7 7l.8 12.500h8.400L17 7",
  find: "M10.5 4.500a6 6 0 1 0 0 12 6 6 0 0 0 0-12z M15 15l5 5",
  chevron: "M9 6l6 6-6 6",
} as const;

export function Glyph({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
