# The official image of PostgreSQL with queue: docker build -t queue . ; compose.yaml runs it.
ARG PG=17
FROM postgres:${PG} AS build
ARG PG
RUN apt-get update && apt-get install -y --no-install-recommends make gcc libc6-dev libcurl4-openssl-dev \
	postgresql-server-dev-${PG}
COPY . /src
RUN make -C /src -j2 PG_CONFIG=/usr/lib/postgresql/${PG}/bin/pg_config WERROR= && \
	make -C /src install DESTDIR=/out PG_CONFIG=/usr/lib/postgresql/${PG}/bin/pg_config

FROM postgres:${PG}
RUN apt-get update && apt-get install -y --no-install-recommends libcurl4 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out /
# The image's entry point runs it once, when the data folder is made.
COPY packaging/initdb.sql /docker-entrypoint-initdb.d/queue.sql
CMD ["postgres", "-c", "shared_preload_libraries=queue"]
