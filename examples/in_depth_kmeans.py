# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # k-means in depth
#
# From four heaps of points to a photograph in sixteen colours: what k-means does, where it fails, and what to do
# then. Each section ends with the question that the next one answers.
#
# It needs the extra `plot` (`pip install '.[plot]'` in a checkout of gpukmeans) and takes less than a minute, a part
# of which goes into compiling at the first run.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits, load_sample_image
from sklearn.metrics import accuracy_score, adjusted_rand_score, confusion_matrix

from gpukmeans import KernelKMeans, KMeans, MiniBatchKMeans, choose_k, lloyd_steps
from gpukmeans.datasets import make_blobs, make_moons
from gpukmeans.pictures import compress
from gpukmeans.plot import (
    ClusterDisplay,
    CriteriaDisplay,
    ElbowDisplay,
    PaletteDisplay,
    SilhouetteDisplay,
    StepsDisplay,
    VoronoiDisplay,
)

# %% [markdown]
# ## 1. Finding heaps
#
# We draw 400 points around four places and then forget which place each belongs to. `KMeans` gets the points alone,
# and how many clusters it shall find.

# %%
X, place = make_blobs(400, centers=[[-6, -3], [-2, 4], [2, -4], [6, 3]], random_state=11)
model = KMeans(n_clusters=4, n_init=10, random_state=0).fit(X)

ClusterDisplay.from_estimator(model, X)
plt.show()

# %% [markdown]
# A *center*, drawn as a numbered disc, is the mean of its points, and each point belongs to the center that is
# nearest. The numbers of the clusters mean nothing: what counts is which points are together. The adjusted Rand index
# compares two groupings in this sense. It is 1 if they are equal, and about 0 if one has nothing to do with the
# other.

# %%
print(f"clusters against places: adjusted Rand index {adjusted_rand_score(place, model.labels_):.3f}")

# %% [markdown]
# There are about 4 to the power of 400 ways to divide these points into four groups. How was a good one found so
# fast?

# %% [markdown]
# ## 2. Two steps, again and again
#
# If we knew the centers, the groups would be easy: each point goes to its nearest center (the *E step*, for
# expectation). If we knew the groups, the centers would be easy: each is the mean of its group (the *M step*, for
# maximization). We know neither. So we guess the centers and then take the two steps in turn until nothing changes.
#
# `lloyd_steps` gives what every step leaves. We begin with a guess that is bad on purpose: the four points farthest
# left.

# %%
start = X[np.argsort(X[:, 0])[:4]]
for i, (_labels, _centers, inertia) in enumerate(lloyd_steps(X, start)):
    print(f"{'EM'[i % 2]} step {i // 2 + 1}: inertia {inertia:9.2f}")

StepsDisplay.from_centers(X, start)
plt.show()

# %% [markdown]
# The *inertia* is the sum of the squared distances from the points to their centers. An E step cannot raise it, for
# no point goes to a center that is farther away; an M step cannot either, for no place has a smaller sum of squares
# than the mean. It falls until it stands still, and it must stand still some time, since there are only so many ways
# to group the points.
#
# This is all that `KMeans` does. Given the same start, it ends in the same place, to the last bit:

# %%
by_steps = list(lloyd_steps(X, start))[-1]
at_once = KMeans(4, init=start, tol=0).fit(X)
print(f"same centers: {np.array_equal(by_steps.centers, at_once.cluster_centers_)}, inertia {at_once.inertia_:.2f}")

# %% [markdown]
# To stand still is not to be right, though. Does the end depend on the start?

# %% [markdown]
# ## 3. A bad start
#
# Each of these ten fits starts at four points drawn at random, by another seed.

# %%
fits = [KMeans(4, init="random", n_init=1, random_state=seed).fit(X) for seed in range(10)]
for seed, fit in enumerate(fits):
    print(f"seed {seed}: inertia {fit.inertia_:8.2f} after {fit.n_iter_} iterations")
bad = max(fits, key=lambda fit: fit.inertia_)
best = KMeans(4, init="random", n_init=10, random_state=0).fit(X)
print(f"the worst of them: inertia {bad.inertia_:.2f}")
print(f"the best of ten starts: inertia {best.inertia_:.2f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for ax, fit, name in zip(axes, (bad, best), ("one bad start", "n_init=10: the best of ten"), strict=True):
    VoronoiDisplay.from_estimator(fit, X, ax=ax).ax_.set_title(f"{name}, inertia {fit.inertia_:.0f}")
plt.show()

# %% [markdown]
# On the left two centers share one heap, and two heaps share one center. No single step leads out of it: the
# algorithm finds *a* valley, not the deepest one. The repair is to start several times and to keep the end with the
# least inertia, which `n_init` does. The start that is the default, `init="k-means++"`, draws centers that are far
# from each other, and rarely goes wrong on data like these; if a good end matters, give it some tries too.
#
# All this time we knew that there are four heaps. What if we had not known?

# %% [markdown]
# ## 4. Six clusters where there are four

# %%
six = KMeans(6, n_init=10, random_state=0).fit(X)
VoronoiDisplay.from_estimator(six, X)
plt.show()
print(f"six clusters: inertia {six.inertia_:.2f}, four: {model.inertia_:.2f}")

# %% [markdown]
# No error and no warning: k-means was asked for six and gives six. The inertia does not tell us either. It is even
# smaller, as it always is with more centers, down to 0 when each point is a center of its own. So inertia compares
# two fits with the same number of clusters, never two with different numbers. What does?

# %% [markdown]
# ## 5. How many clusters?
#
# The *silhouette* of a point compares its mean distance $a$ to the points of its own cluster with $b$, that to the
# points of the nearest other cluster: $(b - a) / \max(a, b)$. It is near 1 deep inside a cluster that stands alone, 0
# on a border, and below 0 if the point would be at home elsewhere. Sorted within each cluster, the silhouettes look
# like knives.

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for ax, k in zip(axes, (3, 4, 6), strict=True):
    fit = KMeans(k, n_init=10, random_state=0).fit(X)
    display = SilhouetteDisplay.from_estimator(fit, X, ax=ax)
    ax.set_title(f"k = {k}", loc="right")
    print(f"{k} clusters: mean silhouette {display.mean_:.3f}")
plt.show()

# %% [markdown]
# With four clusters the knives are alike, and all reach beyond the mean. With three, one cluster covers two heaps:
# its knife is broad and stays short of the mean. With six, heaps are cut in pieces, whose knives are thin and blunt.
#
# A single judge can be wrong. `choose_k` fits a range of numbers and asks several. The *elbow* is where more clusters
# stop to pay: the inertia lies farthest below the straight line between its ends. The *gap* asks how much better the
# points can be grouped than points without any structure. The other two compare how far the clusters spread with how
# far they are apart.

# %%
choice = choose_k(X, range(2, 9), random_state=0)
print(choice)

ElbowDisplay.from_choice(choice)
plt.show()
CriteriaDisplay.from_choice(choice)
plt.show()

# %% [markdown]
# On heaps as clear as these the judges agree. Where they do not, the table is worth more than the verdict, and what
# the clusters are for decides. But what if no number is right?

# %% [markdown]
# ## 6. Where straight lines fail

# %%
moons, which = make_moons(400, noise=0.05, random_state=0)
straight = KMeans(2, n_init=10, random_state=0).fit(moons)
kernel = KernelKMeans(2, random_state=0).fit(moons)

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
VoronoiDisplay.from_estimator(straight, moons, ax=axes[0]).ax_.set_title("KMeans")
ClusterDisplay.from_estimator(kernel, moons, ax=axes[1]).ax_.set_title("KernelKMeans")
plt.show()
print(f"KMeans: adjusted Rand index {adjusted_rand_score(which, straight.labels_):.3f}")
print(f"KernelKMeans: adjusted Rand index {adjusted_rand_score(which, kernel.labels_):.3f}")

# %% [markdown]
# The border between two centers is the line halfway between them, always straight. So k-means finds heaps: roundish,
# of similar width. Two moons that reach into each other are no heaps, whatever the start.
#
# `KernelKMeans` compares points by a *kernel*, a similarity that fades with the distance, and runs k-means among
# features made from it. What is connected by short steps comes together there, and a straight line among the features
# is a bent one among the points.
#
# All of these were a few hundred points. What about a million?

# %% [markdown]
# ## 7. Many rows
#
# Every iteration of k-means looks at every row. `MiniBatchKMeans` looks at a small batch of rows drawn at random,
# moves the centers a little, and draws the next. We compare both on rows without clear clusters, for which k-means
# needs many iterations. (A first small fit compiles what both need; it is not counted.)

# %%
rows = np.random.default_rng(0).normal(size=(1_000_000, 2)).astype(np.float32)
inertias = []
for make in (KMeans, MiniBatchKMeans):
    make(40, random_state=0).fit(rows[:20_000])
    begin = time.perf_counter()
    fit = make(40, random_state=0).fit(rows)
    seconds = time.perf_counter() - begin
    inertias.append(fit.inertia_)
    print(f"{make.__name__}: passes over the rows {fit.n_iter_}, inertia {fit.inertia_:.0f}, {seconds:.2f} s")
print(f"the mini-batches' inertia is {100 * (inertias[1] / inertias[0] - 1):.1f} % larger")

VoronoiDisplay.from_estimator(fit, rows)
plt.show()

# %% [markdown]
# The seconds are those of this machine; passes and inertias are the same for every backend and any number of threads.
# Centers that are nearly as good are often good enough, and where rows arrive one part after the other, or do not fit
# in memory, `partial_fit` takes a batch at a time.
#
# Generated numbers are patient. What about something that people made?

# %% [markdown]
# ## 8. Handwritten digits
#
# 1,797 digits written by hand, as pictures of 8 x 8 pixels: 64 features. We ask for ten clusters, without saying
# which picture is which digit.

# %%
pictures, digit = load_digits(return_X_y=True)
ten = KMeans(10, n_init=10, random_state=0).fit(pictures)

ClusterDisplay.from_estimator(ten, pictures)
plt.show()

# %% [markdown]
# 64 features make no picture, so the rows are shown in the plane in which they vary most. Clusters that overlap here
# can be apart in the other 62 directions.
#
# Which digit is cluster 0? We match clusters to digits such that as many pictures as possible are right, and count.


# %%
def matched(labels, truth):
    """Labels in which each cluster has the number of the class that it fits best, each class once."""
    counts = confusion_matrix(truth, labels)
    classes, clusters = linear_sum_assignment(counts, maximize=True)
    return classes[np.argsort(clusters)][labels]


guess = matched(ten.labels_, digit)
print(f"KMeans, digits: accuracy {accuracy_score(digit, guess):.3f}")
print("rows: the digit, columns: its cluster")
print(confusion_matrix(digit, guess))

# %% [markdown]
# Four of five are right, though nobody ever showed the algorithm a digit. The confusion matrix says where it errs: a
# number off the diagonal counts pictures of one digit in the cluster of another. Here more than half of the 1s share
# a cluster with the 8s.
#
# So far a cluster was an answer. Can it be of use in itself?

# %% [markdown]
# ## 9. A photograph in sixteen colours
#
# The pixels of a photograph are points too: red, green and blue. We cluster them and paint each pixel in the colour
# of its center.

# %%
photograph = load_sample_image("china.jpg")
few = compress(photograph, 16, random_state=0)

PaletteDisplay.from_predictions(photograph, few.pixels)
plt.show()
print(f"{photograph.shape[0] * photograph.shape[1]} pixels, {len(few.model.cluster_centers_)} colours")
print(f"mean squared error {few.mean_sq_error:.5f}, of colours from 0 to 1")

# %% [markdown]
# A pixel that was three bytes is now one of sixteen numbers, half a byte. Each pixel counts alike, so k-means spends
# its centers where the pixels are: the bright sky gets several of the colours, the red of the columns none, for few
# pixels have it. With more colours it comes back: try 64.
#
# From the shell: `gpukmeans compress PICTURE -k 16 -o small.png`. And on your own data: `choose_k`, then a look at
# the knives, then a thought about whether they should be heaps at all.
