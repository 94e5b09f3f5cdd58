// One fault of each kind that scripts/sanitize.sh must report, compiled as the kernels are; never part of the package.
extern "C" {

void overrun(char* at, long size) { at[size] = 1; }

int twice(int value) { return value + value; }

// Called by two threads with the same place.
void count(long* place, long times) {
  for (long i = 0; i < times; ++i) *static_cast<volatile long*>(place) += 1;
}
}
