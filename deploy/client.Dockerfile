# The client of one hospital. Build in the project's folder: docker build -f deploy/client.Dockerfile -t fedhealth-client .
FROM python:3.11-slim
RUN useradd --uid 10001 --create-home fedhealth && mkdir -p /app/receipts && chown fedhealth /app/receipts
WORKDIR /app
COPY requirements-server.txt requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY client.py utils.py ./
COPY fedhealth ./fedhealth
USER 10001
# The receipts; the hospital's data and certificates are mounted, read-only, at /data and /certs.
VOLUME ["/app/receipts"]
ENTRYPOINT ["python", "client.py", "--tls", "/certs", "--receipts", "/app/receipts"]
