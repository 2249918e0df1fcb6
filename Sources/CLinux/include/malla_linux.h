/* What Glibc's Swift module leaves out of Linux. */
#pragma once
