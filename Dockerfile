# One static binary in an empty image, run by a user without rights.
#
#   docker build -t muster .
#   docker run --rm -p 8500:8500 -p 8600:8600/udp muster agent -dev -client=0.0.0.0

ARG BASE=golang:1.26
FROM ${BASE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/muster ./cmd/muster
# Folders that the empty image cannot make by itself, already with their owner.
RUN mkdir -p /out/data /out/config /out/tmp && chmod 1777 /out/tmp

FROM scratch
COPY --from=build --chown=10001:10001 /out/data /data
COPY --from=build --chown=10001:10001 /out/config /config
COPY --from=build /out/tmp /tmp
COPY --from=build /out/muster /muster
USER 10001:10001
VOLUME /data
EXPOSE 8500 8600 8600/udp 8300 8301 8301/udp 8302 8302/udp
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s CMD ["/muster", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/muster"]
CMD ["agent", "-data-dir=/data", "-config-dir=/config", "-server", "-bootstrap-expect=1", "-client=0.0.0.0"]
