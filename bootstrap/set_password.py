"""Gives an administrator another password, inside the application's container, with the application's own Python.

Reads {"email": … or null, "password": …} from standard input and writes what it did as JSON; nothing else is read or
written, so that the password is in no argument and no log. Runs there alone: nothing of this program is beside it.
"""

import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

GIVEN = Path("/run/open-webui-edge/environment.json")
DATA = Path("/app/backend/data")


def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Set the password, end the account's sessions, and say how."""
    # The application's own dependency.
    import sqlalchemy  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    os.environ.update(json.loads(GIVEN.read_text())["environment"])
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
        email = asked["email"] or (next(iter(administrators)) if len(administrators) == 1 else None)
        if email not in administrators:
            return {"administrators": sorted(administrators)}
        identity, before = administrators[email]
        changed = {"password": hashed(asked["password"], before), "id": identity}
        assignments = "password = :password"
        if "session_stamp" in columns:
            # What a session is signed for: one with another is over.
            changed["stamp"] = str(uuid.uuid4())
            assignments += ", session_stamp = :stamp"
        connection.execute(sqlalchemy.text(f"UPDATE auth SET {assignments} WHERE id = :id"), changed)  # noqa: S608 - our own words
    engine.dispose()
    ended = "session_stamp" in columns or told_redis(identity)
    return {"email": email, "ended": ended, "password_auth": os.environ.get("ENABLE_PASSWORD_AUTH", "true") == "true"}


def hashed(password: str, before: str) -> str:
    """Hash it the way the one before was."""
    if str(before).startswith("$argon2"):
        import argon2  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

        return argon2.PasswordHasher().hash(password)
    import bcrypt  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    return bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode()


def told_redis(identity: str) -> bool:
    """Tell the versions that ask Redis whether a session is over; return whether there is one to tell."""
    url = os.environ.get("REDIS_URL")
    if not url:
        return False
    import redis  # noqa: PLC0415 # pyright: ignore[reportMissingImports]

    prefix = os.environ.get("REDIS_KEY_PREFIX") or "open-webui"
    redis.Redis.from_url(url).set(f"{prefix}:auth:user:{identity}:revoked_at", int(time.time()))
    return True


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.load(sys.stdin))))
