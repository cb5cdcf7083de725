# The server, without TensorFlow. Build in the project's folder: docker build -f deploy/server.Dockerfile -t fedhealth-server .
FROM python:3.11-slim
RUN useradd --uid 10001 --create-home fedhealth && mkdir -p /app/runs && chown fedhealth /app/runs
WORKDIR /app
COPY requirements-server.txt ./
RUN pip install --no-cache-dir -r requirements-server.txt
COPY server.py utils.py ./
COPY fedhealth ./fedhealth
USER 10001
EXPOSE 8443
# The run folders; the certificates are mounted, read-only, at /certs.
VOLUME ["/app/runs"]
ENTRYPOINT ["python", "server.py", "--address", "0.0.0.0:8443", "--tls", "/certs"]
