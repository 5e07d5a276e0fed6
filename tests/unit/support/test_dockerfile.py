"""What the test bed of official images reads out of a Dockerfile."""

from tests.support.official_images.dockerfile import settings_in

DOCKERFILE = r"""
ARG HASH=none
FROM node AS frontend
ENV NODE=yes
CMD ["node"]
FROM python AS base
ARG HASH
ARG USE_MODEL="large"
ENV PORT=8080 \
    # a comment between two of them
    MODEL=${USE_MODEL} \
    EMPTY=""
ENV HOME=/root
WORKDIR /app
RUN make \
    all
EXPOSE 8080 9090
USER $UID:0
ARG UID=0
HEALTHCHECK CMD curl --fail http://localhost:${PORT:-8080}/health || exit 1
ENV HASH=$HASH
CMD [ "bash", "start.sh" ]
"""


def test_only_the_last_stage_counts_and_arguments_have_their_defaults() -> None:
    assert settings_in("ARG UID=0\n" + DOCKERFILE, {"PATH": "/bin"}) == {
        "Env": ["PATH=/bin", "PORT=8080", "MODEL=large", "EMPTY=", "HOME=/root", "HASH=none"],
        "WorkingDir": "/app",
        "ExposedPorts": {"8080/tcp": {}, "9090/tcp": {}},
        "User": "0:0",
        "Healthcheck": {"Test": ["CMD-SHELL", "curl --fail http://localhost:${PORT:-8080}/health || exit 1"]},
        "Cmd": ["bash", "start.sh"],
    }
