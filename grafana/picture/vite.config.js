import { resolve } from 'node:path';

import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  base: './',
  // Icons are fetched at run time.
  publicDir: 'node_modules/@grafana/ui/dist/public',
  // The ES modules of @grafana/ui 12.1.0 were published incomplete (its index names exports that its files lack); the CommonJS bundle is whole.
  resolve: { alias: [{ find: /^@grafana\/ui$/, replacement: resolve('node_modules/@grafana/ui/dist/cjs/index.cjs') }] },
  build: { chunkSizeWarningLimit: 20000, reportCompressedSize: false },
});
