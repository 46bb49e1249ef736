"""Training by several processes, on one machine or on many, under the names of Keras 3.

The processes are started by ``mpiexec`` (or ``handmill launch``); what they exchange travels over
MPI (mpi4py, ``pip install 'handmill[mpi]'``).
"""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DataParallel": ".parallel",
        "DeviceMesh": ".mesh",
        "DisagreementError": ".ranks",
        "RankLostError": ".ranks",
        "TensorLayout": ".mesh",
        "distribution": ".parallel",
        "get_device_count": ".mesh",
        "initialize": ".ranks",
        "list_devices": ".mesh",
        "rank": ".ranks",
        "set_distribution": ".parallel",
        "step_cost": ".cost",
    },
)
