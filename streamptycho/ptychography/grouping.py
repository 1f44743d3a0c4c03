"""Several frames visited at the same time, without more sweeps to the same error.

The policy: a group of frames, drawn at random like single ones, all see object and probe as they are, and what each
would do alone is added up. Where the sum would make up for more than the whole of what is missing, it is divided by
that: on every object pixel by the sum over frames of step x |probe|**2 / peak (or what `UpdateRule` has instead of the
peak), and for the probe by the sum of its steps, when these are over 1. A group of one, and frames whose probes do not
overlap, are so exactly sequential ePIE; frames that agree are averaged. On the CPU a result is the same to the last bit
for the same visits, seed and number of threads.

What was found, in sweeps to 1.5 x the error of the truth from a guessed probe, 64 x 64 pixels, neighbours overlapping
by 83 %, object step 0.9, probe step 0.3:

=============================================================  ==========  ==========
policy                                                         234 frames  841 frames
=============================================================  ==========  ==========
one after another                                              17          25
groups of 8                                                    19          23
groups of 16                                                   20          23
groups of 32                                                   25          25
groups of 64                                                               29
groups of 16, the probe by the mean of its changes                         25
groups of 64, the probe by the mean of its changes                         over 30
groups of 4, changes added up                                  20
groups of 8, changes added up to 1.5 x what is missing         19
groups of 128, changes added up to 1.5 x what is missing       diverges
groups of 4, frames as far apart as can be                     19
groups of 4, random frames                                     18
2 threads with copies, merged after 4 visits each, best rule   19
2 threads with copies, merged after 16 visits each, best rule  22
2 threads with copies, merged after 64 visits each, best rule  24
2 threads with copies, merged after 64 visits each, summed     diverges
=============================================================  ==========  ==========

With a beam of 3.5 um in steps of 0.15 um and 1e5 photons (1066 frames, a pixel lit by several hundred of them), groups
of up to 32 need the same 3 sweeps as single frames, groups of 128 need 5, and all end at a lower error, because their
noise is averaged. Taking frames that are far apart gains nothing. What counts is how much of the projection one group
is: up to a twentieth costs little. On the CPU a group is a 96th of the frames at most, because few frames at a time
are enough there, and groups of fewer than 8 keep threads waiting for each other for longer than they save; on a GPU a
16th, because sweeps cost it less.
"""

from __future__ import annotations


def group_size(frames: int, wanted: int, least_groups: int) -> int:
    """Return how many frames may be visited at the same time.

    Parameters
    ----------
    frames
        That are visited in turn.
    wanted
        That would keep the device busy.
    least_groups
        Into which a sweep is divided.
    """
    return max(1, min(wanted, frames // least_groups))
