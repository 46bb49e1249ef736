# A model behind HTTP in a container of about 150 MB.
#
#   docker build -f examples/serve.Dockerfile --build-arg MODEL=model.hmill -t model .
#   docker run --rm -p 8000:8000 --memory 512m --cpus 2 model
#
# The context is a checkout of handmill with the model's file in it. Threads follow the share of
# processors that the container is given (cgroup), and SIGTERM, which docker stop sends, ends it when
# all requests are answered.

FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir "/source[serve]"

FROM python:3.12-slim
COPY --from=build /venv /venv
ARG MODEL=model.hmill
COPY ${MODEL} /model/
ENV MODEL_FILE=/model/${MODEL}
USER nobody
EXPOSE 8000
HEALTHCHECK --interval=10s CMD ["/venv/bin/python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=2)"]
CMD ["sh", "-c", "exec /venv/bin/handmill serve \"$MODEL_FILE\" --host 0.0.0.0 --port 8000"]
