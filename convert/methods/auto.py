"""`auto`: without loss where the source is ternary, else the best method that there is: absmean."""

from .absmean import Absmean

METHODS = (Absmean("auto", "ternary; lossless where the source is ternary, else as absmean"),)
