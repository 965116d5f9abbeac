"""What the API answers when it refuses: OpenAI's error envelope."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse


class ApiError(Exception):
    """An answer other than success; ``param`` names the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def envelope(self) -> dict[str, Any]:
        """The body; the same document stands in an SSE stream that breaks."""
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kinds.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The error as an HTTP response."""
        return JSONResponse(self.envelope(), status_code=self.status, headers=self.headers)


def invalid(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """400: the field ``param`` cannot be served; the message begins with its name."""
    return ApiError(400, f"{param}: {message}", code=code, param=param)


def engine_down(reason: str) -> ApiError:
    """503: no engine to ask."""
    return ApiError(503, f"engine: {reason}.", code="engine_down")


def draining() -> ApiError:
    """503: the server is about to stop."""
    return ApiError(
        503, "server: stopping; running requests finish, new ones are refused.", code="draining"
    )
