import { defineConfig } from "vite";

// The page is served under `default-src 'self'`: nothing is inlined, nothing is fetched from elsewhere.
export default defineConfig({
  base: "/",
  esbuild: { jsx: "automatic" },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  server: { proxy: { "/api": "http://127.0.0.1:8400" } },
});
