"""Three wrong backward passes of layer norm. Each has one mistake."""

from solution import E, over_rows


def statistics_held(dy, x, gamma, beta, eps):
    """The mean and the variance as constants."""
    x_hat, rstd = standardized(x, eps)
    return rstd * gamma * dy, over_rows(dy * x_hat), over_rows(dy)


def gamma_outside(dy, x, gamma, beta, eps):
    """Gamma multiplied in after the averages."""
    x_hat, rstd = standardized(x, eps)
    dx = gamma * rstd * (dy - E(dy) - x_hat * E(dy * x_hat))
    return dx, over_rows(dy * x_hat), over_rows(dy)


def no_variance_term(dy, x, gamma, beta, eps):
    """The last term forgotten."""
    x_hat, rstd = standardized(x, eps)
    dx_hat = gamma * dy
    return rstd * (dx_hat - E(dx_hat)), over_rows(dy * x_hat), over_rows(dy)


def standardized(x, eps):
    """Return x_hat and rstd."""
    centred = x - E(x)
    rstd = (E(centred**2) + eps) ** -0.5
    return rstd * centred, rstd
