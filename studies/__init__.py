"""Studies made with the package, not part of it: what distillation and single ideas give."""
