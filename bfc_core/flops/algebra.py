"""Standard counts of dense linear algebra, by shape. Free of torch.

Source, where no other is named: G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th edition (2013).
"""


def product(rows: int, inner: int, columns: int) -> int:
    """A (rows × inner) matrix times an (inner × columns) one."""
    return 2 * rows * inner * columns


def cholesky(n: int) -> int:
    """n³/3 (§4.2)."""
    return n**3 // 3


def triangular_solve(n: int, right_hand_sides: int) -> int:
    """n² a right-hand side (§3.1)."""
    return n**2 * right_hand_sides


def eigendecomposition(n: int) -> int:
    """Values and vectors of a symmetric matrix: about 9 n³ (§8.3, the symmetric QR algorithm).

    4/3 n³ of them make it tridiagonal. Divide and conquer, which LAPACK uses, takes fewer where values cluster.
    """
    return 9 * n**3


def singular_values(rows: int, columns: int) -> int:
    """Values only, 4 m n² − 4/3 n³ with m ≥ n (figure 8.6.1)."""
    m, n = max(rows, columns), min(rows, columns)
    return 4 * m * n**2 - 4 * n**3 // 3


def singular_vectors(rows: int, columns: int) -> int:
    """Values with the thin U and V, 6 m n² + 20 n³ with m ≥ n (figure 8.6.1, R-SVD)."""
    m, n = max(rows, columns), min(rows, columns)
    return 6 * m * n**2 + 20 * n**3
