"""What the grids are made of: cells, teachers, and every grid by its name.

A cell is a task, a target, a method and a seed; every run is scored live and WAKD-averaged, so averaging costs no
second run. Grids:

- ``core``: segmentation of nuclei (held-out stain) and of CoinRun frames (held-out look), seven methods, five seeds;
- ``policies``: PPO on CoinRun, five methods, three seeds;
- ``settings``, ``buffers``: what ``defaults.py`` chooses the default settings from, beside the core grid's cells;
- ``strength``: the weight and temperature of KD where the teacher is better than its student: it was trained five
  times as long, and is asked with averaged weights. Its teachers and runs want a folder of their own (``--runs``);
- ``nuclei_invert``, ``nuclei_mild``: every way to distil beside a strong plain network, each stain held out in turn,
  with two presets of augmentation: ``plan.md`` says what is asked of them. A folder of their own each;
- ``microcolonies``, ``looks``: its first six methods on images that ``microcolonies.py`` makes and on looks of three
  Procgen games. A folder of their own each;
- ``scarce_5``, ``scarce_25``: with masks for so many per cent of the images, in the folder of ``nuclei_invert``, whose
  teachers they ask;
- ``one_labelled``: with masks for one source domain, there too; ``colonies_one_labelled``: the same of bacteria, in the
  folder of ``microcolonies``;
- ``one_labelled_longer``, ``nuclei_longer``: some of their rows with four times the steps, in the same folder;
- ``dropout``: the weight of SD-Dropout, five seeds. A folder of its own;
- ``pilot``: which games plain PPO learns in a quarter of a million steps, with which settings, judged on the levels it
  is trained on;
- ``students_10``, ``students_25``: every way to distil a policy with so many per cent of its teachers' steps, on what
  the pilot found. They share a folder and its teachers;
- ``students_wide``: of a teacher that was trained on fifty times as many levels, and on none of the student's;
- ``students_levels``: its best rows once more with other seeds, on levels alone;
- ``family``: whether defaults of self-distillation methods cost accuracy on images like those of training. A folder of
  its own;
- ``averages``: SWAD and SMA beside WAKD, in the folder of ``nuclei_invert``, whose plain training and KD it has;
- ``recipe``: settings of ``experiment=recipe`` for segmentation, whose teacher is larger and pretrained. Its preset of
  augmentation is declared, not chosen: source validation cannot see what it is for. A folder of its own, too.
"""

from collections.abc import Mapping

from benchmarks.effect.cells import Grid
from benchmarks.effect.policy_grids import POLICY_GRIDS
from benchmarks.effect.segmentation_grids import SEGMENTATION_GRIDS

GRIDS: Mapping[str, Grid] = {**SEGMENTATION_GRIDS, **POLICY_GRIDS}
