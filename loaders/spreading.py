"""Values that are known here and there, spread over what moves alike."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

STIFFNESS = 20.0  # how much neighbours that move alike are held together, against one sure value
ALIKE = 0.0015  # root mean square, over coordinates, of how neighbours' motion differs where half of that is left
LOOSE = 1e-4  # what is left of it across any border, so that all of the image is determined
ITERATIONS, TOLERANCE = 300, 1e-3


def spread(values: np.ndarray, confidence: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The image x that is near `values` where they are sure, and smooth but where motion changes.

    It minimises Σ_p c_p (x_p − v_p)² + Σ_pq w_pq (x_p − x_q)² over pixels p and neighbours pq, with w falling as a
    Gaussian of how differently the two move; by conjugate gradients, to 0.02 where values are spread over 256 pixels.

    Args:
        values, confidence: [H,W]; a confidence is 0 (unknown) to 1, and not 0 everywhere.
        motion: [H,W,C] shares of the longer side a frame.
    """
    number = np.arange(values.size).reshape(values.shape)
    ends, weights = [], []
    for axis in (0, 1):
        last = values.shape[axis] - 1
        near, far = (np.delete(number, end, axis).ravel() for end in (last, 0))
        difference = np.square(np.diff(motion, axis=axis)).mean(-1).ravel()
        ends.append((near, far))
        weights.append(STIFFNESS * 0.5 ** (difference / ALIKE**2) + LOOSE)
    (near, far), weight = np.concatenate(ends, 1), np.concatenate(weights)
    links = sparse.coo_array((weight, (near, far)), shape=(values.size,) * 2).tocsr()
    links = links + links.T
    held = confidence.ravel().astype(np.float64)
    system = sparse.diags_array(held + links.sum(1)) - links
    start = np.full(values.size, np.average(values, weights=confidence))
    scale = sparse.diags_array(1 / system.diagonal())
    found, _ = cg(system, held * values.ravel(), x0=start, rtol=TOLERANCE, maxiter=ITERATIONS, M=scale)
    return found.reshape(values.shape)
