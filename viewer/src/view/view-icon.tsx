// Drawings on the buttons above the planes; each button says in words what it does.

const PATHS = {
  fit: "M4 9V4h5 M20 9V4h-5 M4 15v5h5 M20 15v5h-5 M9 9h6v6H9z",
  play: "M7 4.500l12 7.500-12 7.500z",
  pause: "M8 5v14 M16 5v14",
  smooth: "M3 17c4 0 4-10 9-10s5 10 9 10",
  crosshair: "M12 2.500v7 M12 14.500v7 M2.500 12h7 M14.500 12h7",
  cube: "M12 3.500l7.500 4.200v8.600L12 20.500l-7.500-4.200V7.700z M4.500 7.700L12 12l7.500-4.300 M12 12v8.500",
} as const;

export function ViewIcon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="view-icon" viewBox="0 0 24 24" width="18" height="18" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
