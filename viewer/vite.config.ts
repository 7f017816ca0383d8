/// <reference types="vitest/config" />
import { defineConfig } from "vite";

// Built into the package, from where the server hands it out under "/": see medsam/server/page.
export default defineConfig({
  base: "/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../medsam/server/page/built",
    emptyOutDir: true,
    target: "es2022",
    // nothing inline: the page's Content-Security-Policy allows files of its own alone
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // of what is bundled: their licences ask to be shipped along
    license: { fileName: "licences.md" },
  },
  test: { environment: "happy-dom", include: ["test/**/*.test.{ts,tsx}"] },
});
