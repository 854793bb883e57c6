"""Deep think to flash: a small student learns to answer in one attempt from a teacher's many verified attempts.

Files in a seed's directory:

    problems/       label, train and test problems, disjoint by construction and checked
    teacher/        a Hugging Face directory, if the teacher is trained from scratch
    attempts/       chains and verdicts: of the teacher on training and test problems, of every student on test problems
    students/ARM/   Hugging Face directories;  training/ARM/ checkpoints while training, metrics.jsonl
    records.jsonl   the models, and QualityRecords: the teacher at N = 1, 4, 16, ... and the students
    result.json     figures, ledger
"""

from flashstill.studies.deep_think.run import bars, run

__all__ = ["bars", "run"]
