"""Diagnosis: which joint or sensor of a robot is off, how, and by how much, from a recording of its motion.

The estimator compares hypotheses by simulation. The simulator is handed in; see `simulator.SegmentSimulator`.
"""
