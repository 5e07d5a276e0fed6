"""Sets an administrator's password, inside the application's container, with the application's own Python.

Reads {"email": … or null, "password": …} from standard input and writes its result as JSON, so that the password is in
no argument and no log. Nothing else of this project is there.
"""

import importlib
import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from open_webui_edge.runtime.contract import CONFIG_DIR, DATA_DIR

ENVIRONMENT_FILE = Path(CONFIG_DIR, "environment.json")
DATA = Path(DATA_DIR)


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Set the password, revoke the account's sessions, and return how."""
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    os.environ.update(json.loads(ENVIRONMENT_FILE.read_text(encoding="utf-8"))["environment"])
    data = Path(os.environ.get("DATA_DIR") or DATA)
    engine = sqlalchemy.create_engine(os.environ.get("DATABASE_URL") or f"sqlite:///{data}/webui.db")
    columns = {column["name"] for column in sqlalchemy.inspect(engine).get_columns("auth")}
    with engine.begin() as connection:
        administrators = {
            str(email).lower(): (identity, before)
            for identity, email, before in connection.execute(
                sqlalchemy.text(
                    "SELECT a.id, a.email, a.password FROM auth a JOIN \"user\" u ON u.id = a.id WHERE u.role = 'admin'"
                )
            )
        }
        email = request["email"] or (next(iter(administrators)) if len(administrators) == 1 else None)
        if email not in administrators:
            return {"administrators": sorted(administrators)}
        identity, before = administrators[email]
        changed = {"password": hashed(request["password"], before), "id": identity}
        assignments = "password = :password"
        if "session_stamp" in columns:
            # Sessions are signed for this stamp: a new one revokes them.
            changed["stamp"] = str(uuid.uuid4())
            assignments += ", session_stamp = :stamp"
        connection.execute(sqlalchemy.text(f"UPDATE auth SET {assignments} WHERE id = :id"), changed)  # noqa: S608 - our own words
    engine.dispose()
    ended = "session_stamp" in columns or revoke_in_redis(identity)
    return {"email": email, "ended": ended, "password_auth": os.environ.get("ENABLE_PASSWORD_AUTH", "true") == "true"}


def hashed(password: str, before: str) -> str:
    """Hash a password with the algorithm of the previous one."""
    if str(before).startswith("$argon2"):
        argon2: Any = importlib.import_module("argon2")
        return argon2.PasswordHasher().hash(password)
    bcrypt: Any = importlib.import_module("bcrypt")
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode()


def revoke_in_redis(identity: str) -> bool:
    """Revoke the sessions for versions that check Redis; return whether there is a Redis."""
    url = os.environ.get("REDIS_URL")
    if not url:
        return False
    redis: Any = importlib.import_module("redis")
    prefix = os.environ.get("REDIS_KEY_PREFIX") or "open-webui"
    redis.Redis.from_url(url).set(f"{prefix}:auth:user:{identity}:revoked_at", int(time.time()))
    return True


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.load(sys.stdin))))
