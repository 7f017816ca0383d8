// Icons of the tools, drawn for this page: lines of 1.6 on a square of 24.

import type { ComponentChildren } from "preact";
import type { ToolId } from "./tool";

function Icon({ children }: { children: ComponentChildren }) {
  return (
    <svg
      class="tools-icon"
      viewBox="0 0 24 24"
      width="20"
      height="20"
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {children}
    </svg>
  );
}

const corner = (x: number, y: number) => (
  <rect x={x - 1.7} y={y - 1.7} width="3.4" height="3.4" fill="currentColor" stroke="none" />
);

export function ToolIcon({ id }: { id: ToolId }) {
  return <Icon>{SHAPES[id]}</Icon>;
}

const SHAPES: Record<ToolId, ComponentChildren> = {
  box: (
    <>
      <rect x="5" y="6" width="14" height="12" stroke-dasharray="3 2.4" />
      {corner(5, 6)}
      {corner(19, 6)}
      {corner(5, 18)}
      {corner(19, 18)}
    </>
  ),
  scribble: <path d="M4 15c2.5-7 5-8.5 5.5-5.5S7 17 10 17s3.5-9 6-9 .5 6 4 5" />,
  lasso: (
    <>
      <path d="M7.5 15.5C2 13 3.5 5 12 5s10 7.5 4 10c-3 1.2-7 .8-8.5-1.5" />
      <path d="M8 14.5c1.5 1.800.5 4-2 5" />
    </>
  ),
  polygon: (
    <>
      <path d="M5 9l8-4 6 7-4 7-8-1z" />
      {corner(5, 9)}
      {corner(13, 5)}
      {corner(19, 12)}
      {corner(15, 19)}
      {corner(7, 18)}
    </>
  ),
  line: (
    <>
      <path d="M5 19L19 5" />
      <path d="M3 17l4 4M17 3l4 4M9.5 10.5l2 2M13.5 6.5l2 2" stroke-width="1.3" />
    </>
  ),
  brush: (
    <>
      <path d="M20 4L11 13.5" stroke-width="2.6" />
      <path
        d="M9.8 13.5c-2.5-.3-3.800 1.300-4 3-.1 1.2-.8 2-2 2.300 3.200 1.800 8 .9 7.800-3.300z"
        fill="currentColor"
      />
    </>
  ),
  eraser: (
    <>
      <path d="M13 5l6.5 6.5L12 19H8l-4-4z" />
      <path d="M8.5 9.5l6.5 6.5M12 19h8" />
    </>
  ),
  threshold: (
    <>
      <path d="M3 18c3 0 3-10 5.5-10S11 15 13 15s2-5 4-5 2 8 4 8" />
      <path d="M6.5 4v16M17.5 4v16" stroke-dasharray="2 2.2" stroke-width="1.3" />
    </>
  ),
  pan: (
    <path d="M12 3v18M3 12h18M12 3l-2.5 2.5M12 3l2.5 2.5M12 21l-2.5-2.5M12 21l2.5-2.5M3 12l2.5-2.5M3 12l2.5 2.5M21 12l-2.5-2.5M21 12l-2.5 2.5" />
  ),
  window: (
    <>
      <circle cx="12" cy="12" r="8" />
      <path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor" stroke="none" />
    </>
  ),
};

export function UndoIcon({ forward = false }: { forward?: boolean }) {
  return (
    <Icon>
      <g transform={forward ? "translate(24 0) scale(-1 1)" : undefined}>
        <path d="M8.5 5L4 9.5 8.5 14" />
        <path d="M4.5 9.5H14a5 5 0 0 1 0 10h-3" />
      </g>
    </Icon>
  );
}

export function KeysIcon() {
  return (
    <Icon>
      <rect x="3" y="6.5" width="18" height="11" rx="2" />
      <path d="M7 10.5h.01M10.5 10.5h.01M14 10.5h.01M17.5 10.5h.01M8 14h8" />
    </Icon>
  );
}
